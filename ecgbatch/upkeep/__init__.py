"""A workspace kept whole over years: verify, repair, erase, compact, clear away, say how it stands and what a command will do.

What comes in is a workspace; what goes out are problems as sentences, stores that take the place of others, counts, estimates for
``--dry-run`` and what an upgrade makes again. This wing may ask all stages, since it has to make again what they made.

Other wings use:

- ``compact``: ``compact``
- ``erase``: ``erase_patient``, ``records_of``
- ``estimates``: ``estimate_conversion``, ``estimate_stages``
- ``findings``: ``drift_since``, ``findings_of``
- ``garbage``: ``collect_garbage``, ``leftovers``
- ``labels_of_reviews``: ``export_labels``
- ``owned``: ``begin_owned``, ``one_thread_for_products``
- ``pending``: ``pending``, ``stored_records``, ``together``
- ``repair``: ``repair``
- ``status``: ``counted_from``, ``last_run``, ``recorded``, ``status``
- ``upgrades``: ``made_again``, ``sentences``
- ``verify``: ``items_of``, ``made_by_others``, ``verify_workspace``
- ``warm``: ``warm``
"""
