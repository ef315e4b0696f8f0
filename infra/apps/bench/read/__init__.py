"""One read with everything on, by a catalogue's size and by retrieval: throughput, CPU, recall, memory."""
