"""A hospital: data in, de-identification, local training, signing, sending.

`deidentify` removes patient identity before anything else is done with a file; `images` reads
DICOM folders and MedMNIST archives; `dataset` commits to images and registers them; `tasks` says
what can be learned, `training` learns it; `client` speaks to the REST server and `answers` reads
what it says; `hospital` takes part in a round from its opening to its verdict.
"""
