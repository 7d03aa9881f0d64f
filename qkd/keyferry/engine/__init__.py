"""The engine process of one link: detections in, blocks out."""
