"""The page of `stripedjob ui`: jobs, their resources and units, and why a resource waits, in a browser.

`serving` (serve.py) is called by the command line. A request is judged by security.py, becomes a view in routes.py, is
read through source.py in one call, kept and repeated for all who look at it by live.py, and rendered by render.py.
What changes something is in actions.py and deeds.py.
"""
