"""Facts of Microsoft.CognitiveServices that several resource types share: kinds and SKUs, models on the wire. Pure."""
