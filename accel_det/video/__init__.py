"""Frames in, frames out: video files, cameras, folders of images; annotated video, text and tables of tracks."""
