//! Listen and dial: TCP and TLS byte streams.
