"""The local web server: a board to play on and to analyze with. Needs the extra `web` (starlette and uvicorn)."""
