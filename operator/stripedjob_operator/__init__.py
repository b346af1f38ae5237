"""The operator: StripedJobs in a cluster become worker Deployments, as many workers as the pool needs.

kopf tells what has changed (handlers) → a queue of names → reconcile: spec and observed → desired → apply → status.
Any event leads to the same reconcile, which reads everything again. Pure: manifests, status.
"""
