"""How right: beats, flags and scores against what people annotated, on real records."""
