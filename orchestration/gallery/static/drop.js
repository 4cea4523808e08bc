// Dropping an image anywhere on a page is the same as choosing it in the form.
const form = document.querySelector("form.upload");
if (form) {
  const input = form.querySelector("input[type=file]");
  const show = (on) => document.body.classList.toggle("dropping", on);
  addEventListener("dragover", (event) => { event.preventDefault(); show(true); });
  addEventListener("dragleave", () => show(false));
  addEventListener("drop", (event) => {
    event.preventDefault();
    show(false);
    if (event.dataTransfer.files.length !== 1) return;
    input.files = event.dataTransfer.files;
    form.requestSubmit();
  });
}
