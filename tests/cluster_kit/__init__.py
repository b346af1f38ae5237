"""A Kubernetes cluster for the tests: kind where Docker is at hand, else one built from source."""
