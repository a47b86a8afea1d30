//! A disk in memory that can lose power and fail the n-th call.
