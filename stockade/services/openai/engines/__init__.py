"""What answers: an upstream server that speaks the OpenAI API, or the built-in models behind a unix socket."""
