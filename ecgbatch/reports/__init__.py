"""What people read: a page and a JSON for each record, the cohort's page and tables, and further forms (PDF, FHIR).

What comes in is a run's scores store and the stores behind it; what goes out lies below ``WORK/reports``, and in
``WORK/pseudonyms.*`` where names are replaced. What is written where is decided in ``writing``; a page's ECG is drawn in
``ecg_paper``, the cohort's charts in ``charts``; who needs a look first is said in ``triage``, what the tables and the page's
list hold in ``tables`` and ``worklist``; HTML is made of ``templates/`` by ``pages``.

Other wings use:

- ``shape``: ``shape_digest``
- ``writing``: ``report_workspace``
"""
