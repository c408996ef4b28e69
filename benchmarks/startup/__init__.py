"""How soon every command answers, beside timm's scripts and ultralytics' command."""
