"""A workspace in a browser: runs, lists of records, reports made when they are asked for, and verdicts of readers.

What comes in are requests of a browser; what goes out are pages, and one file a verdict (``workspace.reviews``): looking writes
nothing. ``server`` is the process and ``application`` its addresses, behind the ``guard``; ``access`` says who may look.
``site`` says what a page is made of, ``shelf`` keeps of the workspace what is asked for again and again, ``listing`` the table of
a run's records, searched, filtered and sorted; ``pages`` renders ``templates/``, and ``static/`` is what a browser loads beside.
``ecg_routes`` shows a whole recording: ``recording`` is one as a viewer needs it, ``tiles`` its samples at any zoom, ``filters``
what may be taken out of them before ``static/viewer.js`` draws them.

Other wings use:

- ``access``: ``Proxy``, ``checked_reader``
- ``server``: ``Place``, ``serve``
"""
