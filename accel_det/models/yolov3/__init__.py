"""YOLOv3, written from its paper and the published facts of Darknet."""
