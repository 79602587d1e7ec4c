// OpenSeadragon behind the same few calls as the built-in viewer.


function loaded() {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "/page/openseadragon.min.js";
    script.onload = () => resolve(window.OpenSeadragon);
    script.onerror = reject;
    document.head.append(script);
  });
}

export async function openSeadragon(place, onChange) {
  return new OsdViewer(await loaded(), place, onChange);
}

class OsdViewer {
  constructor(Osd, place, onChange) {
    this.Osd = Osd;
    this.place = place;
    const inner = document.createElement("div");
    inner.className = "osd";
    place.prepend(inner);
    const token = sessionStorage.getItem("eosin-token");
    this.osd = new Osd.Viewer({
      element: inner, showNavigationControl: false, showNavigator: false, keyboardNavEnabled: false, drawer: "canvas",
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true }, maxZoomPixelRatio: 8, visibilityRatio: 0.5,
      animationTime: 0.5, loadTilesWithAjax: Boolean(token),
      ajaxHeaders: token ? { Authorization: `Bearer ${token}` } : {}, imageLoaderLimit: 6,
    });
    for (const name of ["update-viewport", "open", "resize", "animation"]) this.osd.addHandler(name, onChange);
  }

  open(slide) {
    [this.wide, this.high] = slide.size_px;
    this.osd.open({
      width: this.wide, height: this.high, tileSize: 254, tileOverlap: 1,
      getTileUrl: (level, x, y) => `/slides/${slide.key}/dz_files/${level}/${x}_${y}.jpeg`,
    });
  }

  get at() { return this.osd.world.getItemAt(0); }
  home() { this.osd.viewport.goHome(); }
  size() { return [this.place.clientWidth, this.place.clientHeight]; }
  zoomBy(factor) { this.osd.viewport.zoomBy(factor); }
  panBy(dx, dy) { this.osd.viewport.panBy(this.osd.viewport.deltaPointsFromPixels(new this.Osd.Point(dx, dy))); }
  scale() { return this.at ? this.osd.viewport.viewportToImageZoom(this.osd.viewport.getZoom(true)) : 1; }

  flyTo(box) {
    const pad = 0.35 * Math.max(box.x1 - box.x0, box.y1 - box.y0);
    const area = new this.Osd.Rect(box.x0 - pad, box.y0 - pad, box.x1 - box.x0 + 2 * pad, box.y1 - box.y0 + 2 * pad);
    this.osd.viewport.fitBounds(this.osd.viewport.imageToViewportRectangle(area));
  }

  toSlide(px, py) {
    const at = this.osd.viewport.viewerElementToImageCoordinates(new this.Osd.Point(px, py));
    return [at.x, at.y];
  }

  toScreen(x, y) {
    const at = this.osd.viewport.imageToViewerElementCoordinates(new this.Osd.Point(x, y));
    return [at.x, at.y];
  }

  view() {
    const [w, h] = this.size();
    const [x0, y0] = this.toSlide(0, 0), [x1, y1] = this.toSlide(w, h);
    return { x0, y0, x1, y1 };
  }
}

