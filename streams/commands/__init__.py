"""The commands of `streams`, one file each; `base` has what they share, `reading` and `documents` what the readers do."""
