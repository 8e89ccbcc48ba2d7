"""Training and judging of the three networks.

    datasets/   scans with their answers: label files, splits, stores of preprocessed inputs
    mosmed/     the Keras example's data       hrct/     the HRCT study's data
    recipes     the named trainings
    learning/   batches, epochs, checkpoint, the finished run
    judging/    metrics with intervals, calibration, reports
    legacy/     networks that others saved
    cli/        `ctedge train`

    data folder  ->  Source  ->  store  ->  batches  ->  fit  ->  run folder
                     (rows)    (inputs)             (epochs)  (model.keras, model.json)

Preprocessing is `ctedge.preprocess` and nothing else. What leaves this package is a file: the run
folder that `ctedge export` reads.
"""
