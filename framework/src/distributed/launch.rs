//! How this program was started: alone, or as one of several processes.
