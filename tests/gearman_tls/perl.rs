//! Perl's client and worker over TLS.

use super::*;
