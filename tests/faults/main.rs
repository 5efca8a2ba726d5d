//! Broken links, broken brokers, slow handlers: nothing is lost.
