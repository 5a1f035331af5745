"""YOLOv5, written from its published design and numbers."""
