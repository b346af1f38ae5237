"""The Kubernetes operator: reconciles StripedJob resources into worker Deployments."""
