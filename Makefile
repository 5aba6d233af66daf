# SPDX-License-Identifier: BSD-3-Clause
# For habit; Meson and Ninja do the work, in build/.
.PHONY: all check check-debian install format bench clean
all:
	@scripts/setup run
	@scripts/build
check:
	@./check
check-debian:
	@scripts/setup debian
	@scripts/build
	@tests/interop/debian_root build/viaduct build-peers
install: all
	@meson install -C build --no-rebuild
format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i
bench: all
	@scripts/bench build/viaduct
clean:
	@rm -rf build build-ci
