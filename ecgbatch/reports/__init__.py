"""What people read: a page and a JSON for each record, the cohort's page and tables, and further forms (PDF, FHIR).

What comes in is a run's scores store and the stores behind it; what goes out lies below ``WORK/reports``, and in
``WORK/pseudonyms.*`` where names are replaced. What is written where is decided in ``writing``; which records get a page, in
``chosen_pages``; what of one record, in ``record_files``, from the rows of ``sources``; all as data, in ``documents``; for a
reader who asks a server now, in ``on_demand``. ``record``
gathers what a record's report says, in the ``words`` of its codes and
with the model's ``operating_point``; ``record_page`` makes the page of it. On a page: what of a recording is shown, and why, is
chosen in ``excerpts`` and laid out in ``layout``; ``ecg_paper`` draws the ten seconds, ``course`` the strips of the rest,
``median_beats`` and ``probabilities`` what their names say, all with the pens of ``svg`` on the paper of ``grid``; ``measured``
says the measurements. The cohort's charts are in ``charts``; who needs a look first is said in ``triage``, what the tables and
the page's list hold in ``tables``, ``lead_columns`` and ``worklist``, what readers said in ``reviewed``; HTML is made of
``templates/`` by ``pages``.

Other wings use:

- ``chosen_pages``: ``MODES``, ``checked_pages``, ``stated_mode``
- ``excerpts``: ``rhythm_lead``
- ``grid``: ``grid_patterns``
- ``lead_columns``: ``LeadValues``
- ``median_beats``: ``beat_quartiles``, ``beat_speed``, ``median_beats``
- ``on_demand``: ``Asked``, ``Made``, ``report_on_demand``
- ``pages``: ``Around``, ``environment_of``, ``probability_text``
- ``path_kernels``: ``warm_up``
- ``record``: ``Edition``
- ``record_files``: ``EXTRAS``, ``check_extras``
- ``reviewed``: ``OF_SCORES``, ``reviewed``
- ``rows``: ``Row``, ``plain_float``, ``plain_rows``
- ``shape``: ``shape_digest``
- ``sources``: ``store_path``
- ``tables``: ``lead_facts``
- ``words``: ``LEAD_WORDS``, ``explain_reason``
- ``worklist``: ``LIST``, ``ORDER``, ``Shown``, ``WORDS``
- ``writing``: ``edition_of``, ``report_record``, ``report_workspace``
"""
