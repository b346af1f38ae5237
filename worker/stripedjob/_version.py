"""The one place that states the version; the wheel, the images and the chart read it from here."""

__version__ = "0.1.0"
