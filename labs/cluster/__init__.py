"""What hardware is here, and starting N ranks or a server without leaving a process behind."""
