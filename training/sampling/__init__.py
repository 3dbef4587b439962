"""Drawing the frames between key frames with trained weights: pictures in, films out."""
