# `make test` is the whole proof: formatting, lints, every test, the documentation.
.PHONY: bench layout test official packages fmt lint fuzz doc

# Processes that the tests start carry this mark, so that the end of the run can see whether one stayed behind.
export TIDEGATE_TEST_RUN := $(shell date +%s)-$(shell echo $$PPID)

test: fmt lint fuzz official packages
	cargo test --locked --workspace -- $$(tests/skips.sh)
	@tests/leftovers.sh
	$(MAKE) --no-print-directory doc

# The official OpenClaw clients from npm, and the Node.js that they need.
official:
	tests/official/install.sh

# Debian packages that the tests run against.
packages:
	tests/packages.sh
	tests/sshd/install.sh

fmt:
	cargo fmt --all --check

lint:
	cargo clippy --locked --workspace --all-targets -- -D warnings

# The fuzz targets are a workspace of their own, so nothing else would see them break. What they call runs in
# protocol/tests/any_bytes.rs. Nothing is linked here: naming a library that isn't there leaves libFuzzer's C++ uncompiled.
fuzz:
	CUSTOM_LIBFUZZER_PATH=/nowhere/libfuzzer.a cargo check --locked --manifest-path fuzz/Cargo.toml

# Nobody links against these crates: their documentation is for those who work on them, private items included.
doc:
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --locked --workspace --no-deps --document-private-items

# One table from one run of the release binary, beside a bare relay: see benches/gateway. `make bench ONLY=invoke` for a part.
bench:
	cargo build --locked --release
	install -D target/release/tidegate target/measured/tidegate
	cargo bench --locked --bench gateway -- $(ONLY)

# Which functions lie side by side in the release binary: run this when the program has changed much. Needs valgrind.
layout:
	cargo rustc --locked --release --bin tidegate -- -C strip=none
	install -D target/release/tidegate target/measured/tidegate
	cargo bench --locked --bench gateway -- layout
