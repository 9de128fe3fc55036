//! The loop that serves one sink: read, send, settle, back off, isolate poison.
