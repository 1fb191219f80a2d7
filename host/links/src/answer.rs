//! How a call of an edge below is answered, and refused.

use crate::upper::Answered;
use holdfast_broker::TwinError;
use holdfast_link::{Document, DocumentFault, Problem, Status};

/// A body that cannot be read.
pub fn bad(fault: DocumentFault) -> (Status, Problem) {
    (Status::BAD, Problem::new(fault.to_string()))
}

/// Something here did not work.
pub fn failed(why: impl ToString) -> (Status, Problem) {
    (Status::FAILED, Problem::new(why.to_string()))
}

/// What a twin refuses, with the status that IoT Hub has for it.
pub fn twin_failed(error: TwinError) -> (Status, Problem) {
    (Status(error.status()), Problem::new(error.to_string()))
}

/// The document as an answer.
pub fn encoded(document: &impl Document) -> Answered {
    document.encode().map_err(|fault| (Status::TOO_LARGE, Problem::new(fault.to_string())))
}
