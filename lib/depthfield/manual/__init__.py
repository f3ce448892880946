"""What a system keeps for its users about commands, made from their help texts: manual pages and shell completion."""
