"""A model: its members and what they saw, from the beats of one record to a probability, why, and whether it should be trusted.

What comes in are beats (beat, lead, sample) and a model's folder; what goes out are the logits and probabilities of members, the
evidence in a median beat, and how unlike training it is. Reading a model executes nothing of it. The folds that keep patients
apart are dealt here (``splits``), since a model must know whom it has seen. What it is, is said in ``definition``; its folder is
written and read in ``files``, its card in ``card``; ``preparation`` turns stored beats into the network's input, ``members`` have
their say, and ``probability`` makes one number of it.

Other wings use:

- ``definition``: ``Calibration``, ``DEFAULT_LEADS``, ``Member``, ``Model``, ``ModelError``, ``OperatingPoint``, ``Preprocessing``
- ``electrodes``: ``name_exchange``, ``put_back``
- ``evidence``: ``EVIDENCE_RULE``, ``SEGMENTS``, ``evidence``
- ``export``: ``export_model``
- ``files``: ``SHIPPED``, ``load_model``, ``save_model``, ``shipped_model``, ``write_synced``
- ``inference``: ``ENGINE``
- ``members``: ``Medians``, ``abnormal_logits``, ``joined``, ``medians_of``, ``member_abnormal``, ``member_probabilities``,
  ``member_votes``, ``members_for``
- ``network``: ``BeatNet``, ``SCORING_BATCH``, ``network_probabilities``, ``train_repeatably``
- ``novelty``: ``fit_reference``, ``novelty``
- ``precision``: ``DECISION_MARGIN``, ``choose_precision``, ``remember``
- ``preparation``: ``check_beats``, ``median_beat``, ``prepare_waveforms``
- ``probability``: ``beat_logit``, ``calibrated``, ``mean_beat_logit``, ``record_probability``, ``rule_for``, ``with_prevalence``
- ``random_kernels``: ``Kernels``, ``draw_kernels``, ``fit_regression``, ``kernel_features``
- ``splits``: ``assign_folds``, ``patient_digest``, ``patient_labels``, ``record_digest``
- ``trees``: ``MOST_LEAVES``, ``Trees``, ``class_scores``
- ``warm``: ``warm_up``
- ``waves``: ``r_index``, ``wave_figures``
"""
