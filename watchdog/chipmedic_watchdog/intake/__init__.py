"""The agents' end of the stream: from messages to committed rows."""
