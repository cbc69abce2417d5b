"""FMA: music under Creative Commons licences, the usual training set of audio fingerprinting."""
