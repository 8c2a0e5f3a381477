//! The machine that this runs on.

/// Its name, if it has one. Asked of the kernel: a file that a hardened service can't see would have none.
pub fn host_name() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok().filter(|name| !name.is_empty())
}

/// Its name for people, who are told something in any case.
pub fn shown_host_name() -> String {
    host_name().unwrap_or_else(|| "gateway".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_kernels() {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(host_name().unwrap_or_default(), kernel.trim());
    }
}
