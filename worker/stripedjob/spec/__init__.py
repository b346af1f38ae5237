"""The StripedJob resource: one model (model.py), from which files are read (load.py) and the CRD is made (crd.py).

Used by the CLI, the local supervisor, the worker and the operator. A worker that gets plain values needs the forms of
names alone (forms.py), and not the model, which takes 20 MB.
"""
