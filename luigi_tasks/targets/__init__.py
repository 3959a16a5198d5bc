"""Where results stand, and how one knows that they are whole."""
