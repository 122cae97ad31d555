"""Sans-io looks at the bytes that pass: requests, streams, usage, headers."""
