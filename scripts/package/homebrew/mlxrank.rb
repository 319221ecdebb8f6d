# The formula of mlxrank's own tap. It installs the release archive: Homebrew
# builds without a network, and what mlxrank is built from comes from three
# package registries. A release writes it with its own version and sha256; here
# they are those of no release. docs/dev/releasing.md
class Mlxrank < Formula
  desc "Rank passages by how well they answer a query, on Apple MLX"
  homepage "https://github.com/mlxrank/mlxrank"
  url "https://github.com/mlxrank/mlxrank/releases/download/v0.1.0/mlxrank_0.1.0_darwin_arm64.tar.gz"
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license "Apache-2.0"

  depends_on arch: :arm64
  depends_on macos: :sonoma
  depends_on :macos

  # The libraries find one another by @loader_path, and libmlx.dylib has no room
  # for longer names.
  preserve_rpath

  def install
    prefix.install "bin", "include", "lib", "share"
    generate_completions_from_executable(bin/"mlxrank", "completion")
    (man1/"mlxrank.1").write Utils.safe_popen_read(bin/"mlxrank", "man")
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/mlxrank version")
    assert_path_exists lib/"mlxrank/mlx.metallib"

    # The CPU, since a machine that tests formulae may have no GPU that MLX can use.
    assert_match(/^OK +forward/, shell_output("#{bin}/mlxrank doctor --device cpu"))

    (testpath/"documents.jsonl").write <<~JSON
      {"text": "A mail reader for the terminal."}
      {"text": "An editor for photos and other images."}
    JSON
    command = "#{bin}/mlxrank rerank --model builtin --device cpu --query 'edit photos'"
    ranking = shell_output("#{command} --documents documents.jsonl --top-n 1")
    assert_match "photos", ranking
    refute_match "mail", ranking
  end
end
