"""Networks and blocks of the paper's released code."""
