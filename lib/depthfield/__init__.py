"""Depth from one photo with Deep Convolutional Neural Fields; see the architecture section of README.md."""
