"""The upstream side: pooled HTTP/1.1 conversations with providers."""
