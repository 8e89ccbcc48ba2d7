"""Training of the two 3D networks: labels, batches, fit, evaluate.

    labels.csv + scans  ->  labels  ->  store  ->  batches  ->  fit  ->  run folder
                            (rows)     (volumes)              (epochs)  (model.keras, model.json)

Preprocessing is `ctedge.preprocess` and nothing else. What leaves this package is a file: the run
folder that `ctedge export` reads.
"""
