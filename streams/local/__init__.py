"""What runs on the developer's own machine: a real broker, and the demo on top of it."""
