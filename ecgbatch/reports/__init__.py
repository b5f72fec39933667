"""What people read: a page and a JSON for each record, the cohort's page and tables, and further forms (PDF, FHIR).

What comes in is a run's scores store and the stores behind it; what goes out lies below ``WORK/reports``, and in
``WORK/pseudonyms.*`` where names are replaced. What is written where is decided in ``writing``; which records get a page, in
``chosen_pages``; what of one record, in ``record_files``, from the rows of ``sources``; all as data, in ``documents``. ``record``
gathers what a record's report says, in the ``words`` of its codes and
with the model's ``operating_point``; ``record_page`` makes the page of it. On a page: what of a recording is shown, and why, is
chosen in ``excerpts`` and laid out in ``layout``; ``ecg_paper`` draws the ten seconds, ``course`` the strips of the rest,
``median_beats`` and ``probabilities`` what their names say, all with the pens of ``svg`` on the paper of ``grid``; ``measured``
says the measurements. The cohort's charts are in ``charts``; who needs a look first is said in ``triage``, what the tables and
the page's list hold in ``tables``, ``lead_columns`` and ``worklist``; HTML is made of ``templates/`` by ``pages``.

Other wings use:

- ``chosen_pages``: ``MODES``, ``checked_pages``, ``stated_mode``
- ``excerpts``: ``rhythm_lead``
- ``grid``: ``grid_patterns``
- ``median_beats``: ``beat_quartiles``, ``beat_speed``, ``median_beats``
- ``pages``: ``environment_of``
- ``path_kernels``: ``warm_up``
- ``record_files``: ``check_extras``
- ``rows``: ``Row``, ``plain_float``, ``plain_rows``
- ``shape``: ``shape_digest``
- ``sources``: ``store_path``
- ``words``: ``LEAD_WORDS``, ``explain_reason``
- ``writing``: ``report_record``, ``report_workspace``
"""
