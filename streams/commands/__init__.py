"""The commands of `streams`, one file each; `base`, `reading`, `documents` and `outcomes` are what they share."""
