"""A workspace in a browser: so far the viewer of a whole ECG.

What comes in is where a record's rows are; what goes out are a page, JSON and tiles of samples. Looking writes nothing.
``recording`` is one recording as a viewer needs it, ``tiles`` its samples at any zoom, ``filters`` what may be taken out of them
before they are drawn; ``ecg_routes`` says all that over HTTP, and ``static/viewer.js`` draws it.

Other wings use:

"""
