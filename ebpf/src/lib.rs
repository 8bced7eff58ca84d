//! Empty: lets cargo track this crate as a dependency of builds for the host.
#![no_std]
