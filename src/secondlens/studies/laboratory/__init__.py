"""The laboratory: figures about neurons, words and audits that only scenes with known content can give."""
