"""The vLLM engine and server, workloads, arrivals and the load client."""
