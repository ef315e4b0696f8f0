"""A whole system on one machine: its plan, its processes, its services. Production never imports it."""
