"""Text protocols over stdin and stdout by which other programs drive az: HUB (checkers), NBoard (Othello), GTP."""
